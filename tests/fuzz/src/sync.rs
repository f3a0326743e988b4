//! Frames between peers.

use bytes::Bytes;
use timebus_net::sync::frame::{CHANGES_MAX, FRAME_BYTES_MAX, Frame, HEADS_MAX, NEED_HAVE_MAX, NEED_IDS_MAX, TIPS_MAX};

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
        _ => {}
    }
    true
}
