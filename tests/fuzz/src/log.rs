//! The change log as a file that anything may have happened to.

use std::os::unix::fs::FileExt as _;

use timebus_store::log::{Item, LogReader, Place, frame, record_bytes};

thread_local! {
    static FOLDER: tempfile::TempDir = crate::wire::memory_folder();
}

/// A segment: good records are what was framed, and together with the damage they are the whole file.
pub(crate) fn walk(data: &[u8]) -> bool {
    FOLDER.with(|folder| {
        let file = std::fs::File::create(folder.path().join("00000001.log")).expect("a file");
        file.write_all_at(data, 0).expect("written");
        let reader = LogReader::new(folder.path());
        let (mut at, mut found) = (0, false);
        let mut damaged = false;
        for item in reader.walk(Place::START).expect("readable") {
            match item.expect("readable") {
                Item::Record(record) => {
                    assert_eq!(record.place, Place { segment: 1, offset: at });
                    let len = record.end.offset - at;
                    assert_eq!(len, record_bytes(record.payload_len));
                    if data[at as usize..].starts_with(b"tbr1") {
                        let mut bytes = Vec::new();
                        frame(record.a, &record.payload, &mut bytes);
                        assert_eq!(&data[at as usize..][..len as usize], bytes, "a record that nobody framed so");
                    }
                    assert_eq!(reader.read(record.place).expect("there").payload, record.payload);
                    at = record.end.offset;
                    (damaged, found) = (false, true);
                }
                Item::Damaged(damage) => {
                    assert!(!damaged && damage.bytes > 0, "damage beside damage");
                    assert_eq!(damage.place, Place { segment: 1, offset: at });
                    at += damage.bytes;
                    damaged = true;
                }
            }
        }
        assert_eq!(at, data.len() as u64, "the walk ends before the file does");
        found
    })
}
