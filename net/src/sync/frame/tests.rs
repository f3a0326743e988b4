use proptest::prelude::*;
use timebus_store::change::{CHANGE_BYTES_MAX, Head};
use timebus_store::codec::DecodeError;

use super::*;
use crate::record::RECORD_BYTES_MAX;

/// Bytes from lines of hex, with comments behind `#`.
fn hex(text: &str) -> Bytes {
    let digits: Vec<u8> = text.lines().flat_map(|line| line.split('#').next().unwrap_or("").bytes()).filter(u8::is_ascii_hexdigit).collect();
    let byte = |pair: &[u8]| u8::from_str_radix(std::str::from_utf8(pair).expect("ASCII"), 16).expect("hex digits");
    digits.chunks(2).map(byte).collect::<Vec<u8>>().into()
}

fn file(byte: u8) -> BlobHash {
    BlobHash::from_bytes([byte; 32])
}

fn key(byte: u8) -> PublicKey {
    PublicKey::from_bytes([byte; 32])
}

fn id(byte: u8) -> ChangeId {
    ChangeId([byte; 32])
}

/// 32 equal bytes.
fn times_32(byte: &str) -> String {
    byte.repeat(32)
}

/// One of each, with its bytes.
fn golden() -> Vec<(Frame, Bytes)> {
    let k = times_32;
    let holding = Holding {
        heads: vec![id(0x31), id(0x32)],
        more: false,
        incarnation: [0x41; 16],
        end: 300,
        cursor: Some(Cursor { incarnation: [0x42; 16], upto: 7 }),
    };
    let holding_hex = format!(
        "02 {} {}   # two heads, ascending
         00         # and no more
         {}         # incarnation of the sender's log
         ac02       # its last number, 300
         01 {} 07   # of the receiver's log: incarnation, all up to 7",
        k("31"),
        k("32"),
        "41".repeat(16),
        "42".repeat(16),
    );
    vec![
        (
            Frame::Hello(Hello {
                major: 1,
                minor: 0,
                patch: 2,
                features: vec![Feature { id: 5, required: false }, Feature { id: 300, required: true }],
                frame_bytes_max: 1_056_768,
                nonce: [0x11; 32],
            }),
            hex(&format!(
                "00             # Hello
                 01 00 02       # version 1.0.2
                 02             # two features:
                 05 00          # 5, which need not be known
                 ac02 01        # 300, which must be
                 80c040         # frames of up to 1 056 768 bytes
                 {}             # nonce",
                k("11")
            )),
        ),
        (
            Frame::Auth(Auth {
                space: key(0x21),
                proofs: vec![(key(0x22), Signature::from_bytes([0x23; 64]))],
                name: "bö".to_owned(),
                addresses: vec!["a:1".to_owned()],
            }),
            hex(&format!(
                "01             # Auth
                 {}             # own space
                 01             # one key:
                 {}
                 {}             # and what it signed
                 03 62c3b6      # name
                 01 03 613a31   # one address",
                k("21"),
                k("22"),
                "23".repeat(64)
            )),
        ),
        (
            Frame::Open(Open { channel: 1, space: key(0x21), timeline: TimelineId([0x24; 32]), mode: 0, holding: holding.clone(), credit: 262_144 }),
            hex(&format!(
                "02             # Open
                 01             # channel 1
                 {} {}          # space, timeline
                 00             # whole changes
                 {holding_hex}
                 808010         # credit 262 144",
                k("21"),
                k("24")
            )),
        ),
        (
            Frame::Opened(Opened { channel: 1, holding, credit: 0, lacks: Lacks::Nothing }),
            hex(&format!(
                "03             # Opened
                 01             # channel 1
                 {holding_hex}
                 00             # credit 0
                 01             # lacks nothing"
            )),
        ),
        (
            Frame::Tips { channel: 2, page: Page::Last, tips: vec![Tip { author: key(0x51), seq: 128, id: id(0x52) }] },
            hex(&format!(
                "04             # Tips
                 02             # channel 2
                 01             # the last page
                 01             # one tip:
                 {} 8001 {}     # author, seq 128, change",
                k("51"),
                k("52")
            )),
        ),
        (Frame::Tips { channel: 2, page: Page::LacksNothing, tips: Vec::new() }, hex("04 02 02 00")),
        (
            Frame::Need { channel: 1, ids: vec![id(0x61)], have: vec![id(0x62), id(0x63)] },
            hex(&format!(
                "05             # Need
                 01             # channel 1
                 01 {}          # this change
                 02 {} {}       # on top of these",
                k("61"),
                k("62"),
                k("63")
            )),
        ),
        (
            Frame::Changes { channel: 1, part: Part::Stream, upto: 9, changes: vec![Bytes::from_static(b"abc"), Bytes::from_static(b"d")] },
            hex("06             # Changes
                 01             # channel 1
                 00             # of the stream
                 09             # all up to 9 was sent
                 02             # two:
                 03 616263
                 01 64"),
        ),
        (Frame::Changes { channel: 1, part: Part::AnswerEnds, upto: 0, changes: Vec::new() }, hex("06 01 02 00 00")),
        (
            Frame::Ack(Ack { channel: 1, bytes: 4096, durable: 9, upto: 3 }),
            hex("07             # Ack
                 01             # channel 1
                 8020           # 4 096 bytes
                 09             # your log is here up to 9
                 03             # mine was sent up to 3"),
        ),
        (Frame::Live { channel: 1, upto: 9 }, hex("08 01 09")),
        (
            Frame::Close(Close { channel: 3, code: Code::Busy, retry_after_s: 60, text: "no".to_owned() }),
            hex("09             # Close
                 03             # channel 3
                 04             # busy
                 3c             # try again in 60 s
                 02 6e6f"),
        ),
        (Frame::Close(Close { channel: 3, code: Code::NotHere, retry_after_s: 0, text: String::new() }), hex("09 03 03 00 00")),
        (Frame::Redeem { token: [0x71; 16], device: key(0x72) }, hex(&format!("0a {} {}", "71".repeat(16), k("72")))),
        (Frame::Redeemed { result: Redemption::Later, space: key(0x73), text: "wait".to_owned() }, hex(&format!("0b 02 {} 04 77616974", k("73")))),
        (
            Frame::Providers { channel: 1, providers: vec![Provider { node: key(0x81), addresses: vec!["b:2".to_owned()] }] },
            hex(&format!("0c 01 01 {} 01 03 623a32", k("81"))),
        ),
        (
            Frame::Put { space: key(0x91), notices: vec![Bytes::from_static(b"hi"), Bytes::from_static(b"ho")] },
            hex(&format!("0d {} 02 02 6869 02 686f", k("91"))),
        ),
        (
            Frame::Took { space: key(0x91), results: vec![(id(0x92), Taking::Kept), (id(0x93), Taking::Full)] },
            hex(&format!("0e {} 02 {} 00 {} 02", k("91"), k("92"), k("93"))),
        ),
        (
            Frame::Presence {
                channel: 1,
                path: Path::parse("/a/b").expect("a path"),
                seats: vec![Seat { name: [0xa1; 8], value: Some(Bytes::from_static(b"[1]")) }, Seat { name: [0xa2; 8], value: None }],
            },
            hex(&format!(
                "0f             # Presence
                 01             # channel 1
                 04 61006200    # path /a/b
                 02             # two seats:
                 {} 01 03 5b315d  # where he is
                 {} 00          # gone",
                "a1".repeat(8),
                "a2".repeat(8)
            )),
        ),
        (
            Frame::Feed { channel: 1, wants: Wants::All, is_busy: false, more: true, bytes: 300, heads: vec![id(0xb1), id(0xb2)] },
            hex(&format!(
                "14             # Feed
                 01             # channel 1
                 02             # everything is to be sent
                 00             # nobody waits
                 01             # there are more heads
                 ac02           # 300 changes
                 02 {} {}       # two heads",
                k("b1"),
                k("b2")
            )),
        ),
        (Frame::Records(vec![Bytes::from_static(b"hi"), Bytes::from_static(b"ho")]), hex("10 02 02 6869 02 686f")),
        (Frame::AskFiles { space: key(0xa1), files: vec![file(1), file(2)] }, hex(&format!("12 {} 02 {} {}", k("a1"), k("01"), k("02")))),
        (Frame::Files { space: key(0xa1), files: vec![] }, hex(&format!("13 {} 00", k("a1")))),
        (Frame::AskRecords(vec![key(0xa1), key(0xa2)]), hex(&format!("11 02 {} {}", k("a1"), k("a2")))),
        (
            Frame::Weigh { channel: 1, authors: vec![key(0xa1)], ids: vec![id(0x51), id(0x52)], heads: vec![Bytes::from_static(b"hi")] },
            hex(&format!(
                "16             # Weigh
                 01             # channel 1
                 01 {}          # an author of whom nothing is taken
                 02 {} {}       # changes whose heads are wanted
                 01 02 6869     # a head",
                k("a1"),
                k("51"),
                k("52")
            )),
        ),
    ]
}

#[test]
fn bytes_of_each_frame() {
    for (frame, bytes) in golden() {
        assert_eq!(frame.encode(), bytes, "{frame:?}");
        assert_eq!(Frame::decode(&bytes), Ok(frame));
    }
}

#[test]
fn refuses_what_is_cut_off_or_goes_on() {
    for (frame, bytes) in golden() {
        for len in 0..bytes.len() {
            assert!(Frame::decode(&bytes.slice(..len)).is_err(), "{frame:?} at {len}");
        }
        let longer = Bytes::from([&bytes[..], &[0]].concat());
        assert_eq!(Frame::decode(&longer), Err(DecodeError::Trailing { extra: 1 }), "{frame:?}");
    }
}

#[test]
fn refuses_more_than_the_limits() {
    let is_refused = |frame: Frame| Frame::decode(&frame.encode()).is_err();
    let ids = |count: usize| (0..count).map(|n| ChangeId(std::array::from_fn(|at| (n >> (8 * (31 - at).min(7))) as u8))).collect::<Vec<_>>();
    let open = |heads: usize| {
        Frame::Opened(Opened { channel: 1, holding: Holding { heads: ids(heads), ..Holding::default() }, credit: 0, lacks: Lacks::Nothing })
    };
    assert!(!is_refused(open(HEADS_MAX)) && is_refused(open(HEADS_MAX + 1)));
    let need = |wanted, had| Frame::Need { channel: 1, ids: ids(wanted), have: ids(had) };
    assert!(!is_refused(need(NEED_IDS_MAX, NEED_HAVE_MAX)));
    assert!(is_refused(need(NEED_IDS_MAX + 1, 0)) && is_refused(need(1, NEED_HAVE_MAX + 1)) && is_refused(need(0, 1)));
    let tips =
        |count: u64| Frame::Tips { channel: 1, page: Page::Last, tips: (1..=count).map(|seq| Tip { author: key(1), seq, id: id(1) }).collect() };
    assert!(!is_refused(tips(TIPS_PER_AUTHOR_MAX as u64)) && is_refused(tips(TIPS_PER_AUTHOR_MAX as u64 + 1)));
    let changes = |count: usize| Frame::Changes { channel: 1, part: Part::Stream, upto: 0, changes: vec![Bytes::new(); count] };
    assert!(!is_refused(changes(CHANGES_MAX)) && is_refused(changes(CHANGES_MAX + 1)) && is_refused(changes(0)));
    let large = |len: usize| Frame::Changes { channel: 1, part: Part::Stream, upto: 0, changes: vec![vec![0; len].into()] };
    assert!(!is_refused(large(CHANGE_BYTES_MAX)) && is_refused(large(CHANGE_BYTES_MAX + 1)));
    assert!(is_refused(Frame::Live { channel: 0, upto: 0 }) && is_refused(Frame::Live { channel: CHANNEL_MAX + 1, upto: 0 }));
    let close = |len: usize| Frame::Close(Close { channel: 0, code: Code::Done, retry_after_s: 0, text: "x".repeat(len) });
    assert!(!is_refused(close(TEXT_BYTES_MAX)) && is_refused(close(TEXT_BYTES_MAX + 1)));
    let records = |count: usize, len: usize| Frame::Records(vec![vec![0; len].into(); count]);
    assert!(!is_refused(records(RECORDS_OF_FRAME_MAX, RECORD_BYTES_MAX)) && is_refused(records(RECORDS_OF_FRAME_MAX + 1, 1)));
    assert!(is_refused(records(0, 0)) && is_refused(records(1, RECORD_BYTES_MAX + 1)));
    let files = |count: usize| (0..count).map(|at| BlobHash::from_bytes([at as u8; 32])).collect::<Vec<_>>();
    let ask_files = |count: usize| Frame::AskFiles { space: key(1), files: files(count) };
    let say_files = |count: usize| Frame::Files { space: key(1), files: files(count) };
    assert!(!is_refused(ask_files(FILES_MAX)) && is_refused(ask_files(FILES_MAX + 1)) && is_refused(ask_files(0)));
    assert!(!is_refused(say_files(FILES_MAX)) && is_refused(say_files(FILES_MAX + 1)) && !is_refused(say_files(0)));
    assert!(
        is_refused(Frame::Files { space: key(1), files: vec![file(2), file(1)] })
            && is_refused(Frame::Files { space: key(1), files: vec![file(1), file(1)] })
    );
    let asked = |count: usize| Frame::AskRecords((0..count).map(|at| key(at as u8)).collect());
    assert!(!is_refused(asked(ASKED_MAX)) && is_refused(asked(ASKED_MAX + 1)) && is_refused(asked(0)));
    let weigh = |authors: usize, wanted, heads: usize, len: usize| Frame::Weigh {
        channel: 1,
        authors: (0..authors).map(|at| key(at as u8)).collect(),
        ids: ids(wanted),
        heads: vec![vec![0; len].into(); heads],
    };
    let max = WEIGHED_MAX;
    assert!(!is_refused(weigh(max, max, max, Head::BYTES_MAX)) && is_refused(weigh(0, 0, 0, 0)) && is_refused(weigh(1, 0, 1, Head::BYTES_MAX + 1)));
    assert!(is_refused(weigh(max + 1, 0, 0, 0)) && is_refused(weigh(0, max + 1, 0, 0)) && is_refused(weigh(0, 0, max + 1, 0)));
    let auth = |keys: u8| {
        let proofs = (0..keys).map(|n| (key(n), Signature::from_bytes([0; 64]))).collect();
        Frame::Auth(Auth { space: key(0), proofs, name: String::new(), addresses: Vec::new() })
    };
    assert!(!is_refused(auth(KEYS_MAX as u8)) && is_refused(auth(KEYS_MAX as u8 + 1)) && is_refused(auth(0)));
}

#[test]
fn refuses_sets_that_are_not_ascending() {
    let asked = Frame::AskRecords(vec![key(2), key(1)]);
    assert_eq!(Frame::decode(&asked.encode()), Err(DecodeError::Order { field: "keys" }));
    let need = Frame::Need { channel: 1, ids: vec![id(2), id(1)], have: Vec::new() };
    assert_eq!(Frame::decode(&need.encode()), Err(DecodeError::Order { field: "needed changes" }));
    let twice = Frame::Need { channel: 1, ids: vec![id(2), id(2)], have: Vec::new() };
    assert!(Frame::decode(&twice.encode()).is_err());
    let tip = |author, seq| Tip { author: key(author), seq, id: id(1) };
    let tips = Frame::Tips { channel: 1, page: Page::More, tips: vec![tip(2, 1), tip(1, 9)] };
    assert_eq!(Frame::decode(&tips.encode()), Err(DecodeError::Order { field: "tips" }));
}

fn holdings() -> impl Strategy<Value = Holding> {
    let cursor = prop::option::of((any::<[u8; 16]>(), any::<u64>()).prop_map(|(incarnation, upto)| Cursor { incarnation, upto }));
    (prop::collection::btree_set(any::<[u8; 32]>(), 0..8), any::<bool>(), any::<[u8; 16]>(), any::<u64>(), cursor).prop_map(
        |(heads, more, incarnation, end, cursor)| Holding { heads: heads.into_iter().map(ChangeId).collect(), more, incarnation, end, cursor },
    )
}

fn frames() -> impl Strategy<Value = Frame> {
    let channels = 1..=CHANNEL_MAX;
    let sets = || prop::collection::btree_set(any::<[u8; 32]>(), 1..8).prop_map(|set| set.into_iter().map(ChangeId).collect::<Vec<_>>());
    let changes = prop::collection::vec(prop::collection::vec(any::<u8>(), 0..64).prop_map(Bytes::from), 1..8);
    let changes_too = changes.clone();
    prop_oneof![
        (channels.clone(), holdings(), any::<u64>()).prop_map(|(channel, holding, credit)| Frame::Opened(Opened {
            channel,
            holding,
            credit,
            lacks: Lacks::AfterCursor
        })),
        (channels.clone(), any::<[u8; 32]>(), holdings(), any::<u8>()).prop_map(|(channel, space, holding, mode)| Frame::Open(Open {
            channel,
            space: PublicKey::from_bytes(space),
            timeline: TimelineId(space),
            mode,
            holding,
            credit: 1
        })),
        (channels.clone(), sets(), sets()).prop_map(|(channel, ids, have)| Frame::Need { channel, ids, have }),
        (channels.clone(), any::<u64>(), changes).prop_map(|(channel, upto, changes)| Frame::Changes { channel, part: Part::Answer, upto, changes }),
        (channels.clone(), any::<u64>(), any::<u64>(), any::<u64>()).prop_map(|(channel, bytes, durable, upto)| Frame::Ack(Ack {
            channel,
            bytes,
            durable,
            upto
        })),
        (channels.clone(), sets(), sets(), changes_too).prop_map(|(channel, authors, ids, heads)| Frame::Weigh {
            channel,
            authors: authors.into_iter().map(|id| PublicKey::from_bytes(*id.as_bytes())).collect(),
            ids,
            heads
        }),
        (channels, "\\PC{0,40}").prop_map(|(channel, text)| Frame::Close(Close { channel, code: Code::Going, retry_after_s: 1, text })),
    ]
}

proptest! {
    #[test]
    fn reads_what_it_writes(frame in frames()) {
        prop_assert_eq!(Frame::decode(&frame.encode()), Ok(frame));
    }

    #[test]
    fn what_is_accepted_has_one_spelling(bytes: Vec<u8>) {
        let bytes = Bytes::from(bytes);
        if let Ok(frame) = Frame::decode(&bytes) {
            prop_assert_eq!(frame.encode(), bytes);
        }
    }

    #[test]
    fn a_changed_byte_is_refused_or_means_something_else(which in 0..golden().len(), at: prop::sample::Index, byte: u8) {
        let (frame, bytes) = golden().swap_remove(which);
        let mut bytes = bytes.to_vec();
        let at = at.index(bytes.len());
        bytes[at] = byte;
        let bytes = Bytes::from(bytes);
        if let Ok(other) = Frame::decode(&bytes) {
            prop_assert_eq!(other.encode(), &bytes);
            prop_assert_eq!(other == frame, frame.encode() == bytes);
        }
    }
}
