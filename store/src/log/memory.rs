//! A disk in memory, for simulations: what is written and not synced can be lost, and it fails on command.

use std::collections::BTreeMap;
use std::io;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use super::Place;

#[derive(Clone, Debug, Default)]
struct Segment {
    bytes: Vec<u8>,
    /// So many of them outlive a crash.
    synced: usize,
}

#[derive(Clone, Debug, Default)]
struct State {
    segments: BTreeMap<u32, Segment>,
    /// Bytes that can still be written, if that is limited.
    space: Option<usize>,
    /// Syncs that will fail.
    syncs_failing: u32,
    syncs: u64,
}

/// A disk with the segments of one log. Clones are the same disk.
#[derive(Clone, Debug, Default)]
pub struct MemoryDisk(Arc<Mutex<State>>);

impl MemoryDisk {
    fn lock(&self) -> MutexGuard<'_, State> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The disk as a crash leaves it. What was not synced is handed to `lose`, which cuts it anywhere or damages it.
    #[must_use]
    pub fn surviving(&self, lose: &mut dyn FnMut(&mut Vec<u8>)) -> Self {
        let mut state = self.lock().clone();
        (state.space, state.syncs_failing) = (None, 0);
        for segment in state.segments.values_mut() {
            let mut tail = segment.bytes.split_off(segment.synced);
            if !tail.is_empty() {
                lose(&mut tail);
            }
            segment.bytes.append(&mut tail);
            segment.synced = segment.bytes.len();
        }
        Self(Arc::new(Mutex::new(state)))
    }

    /// Lets so many more bytes be written before the disk is full; `None` for any number.
    pub fn limit_space(&self, bytes: Option<usize>) {
        self.lock().space = bytes;
    }

    /// Lets the next so many syncs fail.
    pub fn fail_syncs(&self, count: u32) {
        self.lock().syncs_failing = count;
    }

    /// Bytes of the log.
    #[must_use]
    pub fn bytes(&self) -> u64 {
        self.lock().segments.values().map(|segment| segment.bytes.len() as u64).sum()
    }

    /// Bytes of the log that outlive a crash.
    #[must_use]
    pub fn synced_bytes(&self) -> u64 {
        self.lock().segments.values().map(|segment| segment.synced as u64).sum()
    }

    /// How many syncs there were.
    #[must_use]
    pub fn syncs(&self) -> u64 {
        self.lock().syncs
    }

    pub(super) fn segments(&self) -> Vec<u32> {
        self.lock().segments.keys().copied().collect()
    }

    pub(super) fn len(&self, segment: u32) -> io::Result<u64> {
        let state = self.lock();
        let segment = state.segments.get(&segment).ok_or(io::ErrorKind::NotFound)?;
        Ok(segment.bytes.len() as u64)
    }

    pub(super) fn read_exact_at(&self, segment: u32, buffer: &mut [u8], offset: u64) -> io::Result<()> {
        let state = self.lock();
        let bytes = &state.segments.get(&segment).ok_or(io::ErrorKind::NotFound)?.bytes;
        let start = usize::try_from(offset).map_err(|_| io::ErrorKind::UnexpectedEof)?;
        let found = bytes.get(start..).and_then(|bytes| bytes.get(..buffer.len()));
        buffer.copy_from_slice(found.ok_or(io::ErrorKind::UnexpectedEof)?);
        Ok(())
    }

    /// Writes at the end of a segment. A disk that fills up while doing so has taken the first part.
    pub(super) fn write(&self, place: Place, bytes: &[u8]) -> io::Result<()> {
        let mut state = self.lock();
        let taken = state.space.map_or(bytes.len(), |space| space.min(bytes.len()));
        let segment = state.segments.entry(place.segment).or_default();
        if segment.bytes.len() as u64 != place.offset {
            return Err(io::Error::other(format!("a record at {} of a segment of {} bytes", place.offset, segment.bytes.len())));
        }
        segment.bytes.extend_from_slice(&bytes[..taken]);
        state.space = state.space.map(|space| space - taken);
        if taken < bytes.len() { Err(io::ErrorKind::StorageFull.into()) } else { Ok(()) }
    }

    pub(super) fn sync(&self, segment: u32) -> io::Result<()> {
        let mut state = self.lock();
        if state.syncs_failing > 0 {
            state.syncs_failing -= 1;
            return Err(io::Error::other("the simulated disk could not sync"));
        }
        state.syncs += 1;
        let segment = state.segments.entry(segment).or_default();
        segment.synced = segment.bytes.len();
        Ok(())
    }

    /// Cuts off everything from a place on, for good.
    pub(super) fn cut(&self, place: Place) -> io::Result<()> {
        {
            let mut state = self.lock();
            let state = &mut *state;
            let gone = state.segments.split_off(&(place.segment + 1));
            let segment = state.segments.entry(place.segment).or_default();
            let end = usize::try_from(place.offset).map_err(|_| io::ErrorKind::InvalidInput)?;
            let freed = segment.bytes.len().saturating_sub(end) + gone.values().map(|segment| segment.bytes.len()).sum::<usize>();
            segment.bytes.truncate(end);
            segment.synced = segment.synced.min(end);
            state.space = state.space.map(|space| space + freed);
        }
        self.sync(place.segment)
    }
}

#[cfg(test)]
mod tests {
    use super::super::{Appender, Item, LogReader, allot, frame};
    use super::*;

    fn append(appender: &mut Appender, next: &mut Place, a: u64, payload: &[u8]) -> io::Result<()> {
        let (place, end) = allot(*next, payload.len());
        let mut bytes = Vec::new();
        frame(a, payload, &mut bytes);
        appender.write(place, &bytes)?;
        *next = end;
        Ok(())
    }

    fn records(disk: &MemoryDisk) -> Vec<u64> {
        let items = LogReader::in_memory(disk.clone()).walk(Place::START).expect("walk");
        let items = items.map(|item| item.expect("readable"));
        items.filter_map(|item| if let Item::Record(record) = item { Some(record.a) } else { None }).collect()
    }

    #[test]
    fn a_crash_keeps_what_was_synced_and_what_it_likes_of_the_rest() {
        let disk = MemoryDisk::default();
        let mut next = Place::START;
        let mut appender = Appender::in_memory(disk.clone(), next).expect("opens");
        append(&mut appender, &mut next, 1, b"one").expect("written");
        appender.sync().expect("synced");
        append(&mut appender, &mut next, 2, b"two").expect("written");
        assert_eq!(records(&disk), [1, 2]);
        for kept in 0..35 {
            let after = disk.surviving(&mut |tail| {
                assert_eq!(tail.len(), 35);
                tail.truncate(kept);
            });
            assert_eq!(records(&after), [1], "{kept} bytes are kept");
        }
        assert_eq!(records(&disk.surviving(&mut |_| {})), [1, 2]);
    }

    #[test]
    fn a_full_disk_takes_the_first_part_and_goes_on_after_cutting_it_off() {
        let disk = MemoryDisk::default();
        let mut next = Place::START;
        let mut appender = Appender::in_memory(disk.clone(), next).expect("opens");
        append(&mut appender, &mut next, 1, b"one").expect("written");
        disk.limit_space(Some(36));
        let error = append(&mut appender, &mut next, 2, b"two is longer").expect_err("full");
        assert_eq!(error.kind(), io::ErrorKind::StorageFull);
        appender.rewind(next).expect("cut");
        append(&mut appender, &mut next, 2, b"two").expect("fits");
        assert_eq!(records(&disk), [1, 2]);
    }

    #[test]
    fn a_segment_is_synced_before_the_next_begins() {
        let disk = MemoryDisk::default();
        let mut next = Place::START;
        let mut appender = Appender::in_memory(disk.clone(), next).expect("opens");
        append(&mut appender, &mut next, 1, b"one").expect("written");
        next = Place { segment: 2, offset: 0 };
        append(&mut appender, &mut next, 2, b"two").expect("written");
        assert_eq!(records(&disk.surviving(&mut Vec::clear)), [1]);
        appender.sync().expect("synced");
        assert_eq!(records(&disk.surviving(&mut Vec::clear)), [1, 2]);
    }
}
