//! Frames between peers.

use bytes::Bytes;
use timebus_net::blobs::frame::{BlobFrame, TYPES};
use timebus_net::record::{PeerRecord, RECORD_BYTES_MAX};
use timebus_net::sync::frame::{CHANGES_MAX, FRAME_BYTES_MAX, Frame, HEADS_MAX, NEED_HAVE_MAX, NEED_IDS_MAX, TIPS_MAX, WEIGHED_MAX};
use timebus_store::change::Head;

/// One frame about blobs.
pub(crate) fn blob_frame(data: &[u8]) -> bool {
    let Ok(frame) = BlobFrame::decode(data) else { return false };
    assert_eq!(frame.encode(), data, "a second spelling");
    assert!(TYPES.contains(&data[0]));
    let pieces = match &frame {
        BlobFrame::Have { pieces, .. } => pieces,
        BlobFrame::Want { any_of, .. } => any_of,
        BlobFrame::Piece { .. } | BlobFrame::Not { .. } => return true,
    };
    assert!(pieces.iter().all(|(start, end)| start < end));
    assert!(pieces.windows(2).all(|pair| pair[0].1 < pair[1].0), "stretches touch");
    true
}

/// A peer record.
pub(crate) fn record(data: &[u8]) -> bool {
    let Ok(record) = PeerRecord::decode(data) else { return false };
    assert_eq!(PeerRecord::encode(&record), data, "a second spelling");
    assert!(data.len() <= RECORD_BYTES_MAX && record.content().seq > 0);
    if let Ok(good) = record.clone().verify() {
        assert_eq!(PeerRecord::encode_verified(&good), data);
    }
    true
}

/// One frame.
pub(crate) fn frame(data: &[u8]) -> bool {
    let data = Bytes::copy_from_slice(data);
    let Ok(frame) = Frame::decode(&data) else { return false };
    assert_eq!(frame.encode(), data, "a second spelling");
    assert!(data.len() <= FRAME_BYTES_MAX);
    match &frame {
        Frame::Open(open) => assert!(open.holding.heads.len() <= HEADS_MAX && open.holding.heads.is_sorted()),
        Frame::Tips { tips, .. } => assert!(tips.len() <= TIPS_MAX && tips.is_sorted()),
        Frame::Need { ids, have, .. } => assert!(ids.len() <= NEED_IDS_MAX && have.len() <= NEED_HAVE_MAX),
        Frame::Changes { changes, .. } => {
            assert!(changes.len() <= CHANGES_MAX);
            assert!(changes.iter().map(Bytes::len).sum::<usize>() < data.len(), "more came out than went in");
        }
        Frame::Weigh { authors, ids, heads, .. } => {
            assert!(authors.len() <= WEIGHED_MAX && authors.is_sorted() && ids.is_sorted());
            for head in heads {
                // What is read of a head is all of it, and the beginning of a change is one.
                if let Ok(read) = Head::decode(head) {
                    assert_eq!([read.content().header().encode(), read.signature().as_bytes().to_vec()].concat(), head[..]);
                    assert_eq!(Head::part_of(&[head, &data[..]].concat()), Some(&head[..]));
                }
            }
        }
        _ => {}
    }
    true
}
