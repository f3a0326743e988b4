//! The change log: the truth from which everything else can be rebuilt.
//!
//! Append-only segment files of [`SEGMENT_BYTES`] hold one record per change, in order of arrival. A record is
//! `magic (4) ‖ payload length (4, LE) ‖ arrival number (8, LE) ‖ payload ‖ BLAKE3 of all before (16)`; a
//! payload is an encoded change, or a packed one, as the magic says. The magic lets a reader find the next record behind
//! a damaged one.

use std::fs::{File, OpenOptions};
use std::io;
use std::os::unix::fs::{FileExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex};

use timebus_identity::{Signature, Verified};

use crate::change::{CHANGE_BYTES_MAX, Change, SIGNATURE_BYTES};
pub use memory::MemoryDisk;

mod memory;
mod packed;

/// Size at which a new segment is begun.
pub const SEGMENT_BYTES: u64 = 64 * 1024 * 1024;
/// Begins a record whose payload is kept as it is.
const MAGIC: [u8; 4] = *b"tbr1";
/// Begins a record whose payload is a packed change.
const MAGIC_PACKED: [u8; 4] = *b"tbr2";
/// What both begin with.
const MAGIC_START: &[u8] = b"tbr";
const HEAD_BYTES: usize = 16;
const CHECK_BYTES: usize = 16;
/// Room that the log leaves on a disk. It can go on after a write for which there was none; the tables, which are written
/// after it, can not, and what they move at once is smaller.
const ROOM_BYTES_MIN: u64 = 16 * 1024 * 1024;
/// Largest payload; a change is smaller.
const PAYLOAD_BYTES_MAX: usize = CHANGE_BYTES_MAX;

/// Where a record begins.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub struct Place {
    /// Number of the segment file, from 1.
    pub segment: u32,
    /// Bytes before the record in it.
    pub offset: u64,
}

impl Place {
    /// The first place of a log.
    pub const START: Self = Self { segment: 1, offset: 0 };
}

/// Bytes that a payload takes in the log.
#[must_use]
pub fn record_bytes(payload_len: usize) -> u64 {
    (HEAD_BYTES + payload_len + CHECK_BYTES) as u64
}

/// The place for a record of `payload_len` bytes at `next`, and the place behind it.
#[must_use]
pub fn allot(next: Place, payload_len: usize) -> (Place, Place) {
    let len = record_bytes(payload_len);
    let place = if next.offset > 0 && next.offset + len > SEGMENT_BYTES { Place { segment: next.segment + 1, offset: 0 } } else { next };
    (place, Place { offset: place.offset + len, ..place })
}

/// Appends one framed record.
pub fn frame(a: u64, payload: &[u8], out: &mut Vec<u8>) {
    frame_parts(MAGIC, a, &[payload], out);
}

fn frame_parts(magic: [u8; 4], a: u64, payload: &[&[u8]], out: &mut Vec<u8>) {
    let start = out.len();
    let len: usize = payload.iter().map(|part| part.len()).sum();
    out.reserve(HEAD_BYTES + len + CHECK_BYTES);
    out.extend_from_slice(&magic);
    out.extend_from_slice(&(len as u32).to_le_bytes());
    out.extend_from_slice(&a.to_le_bytes());
    payload.iter().for_each(|part| out.extend_from_slice(part));
    let check = blake3::hash(&out[start..]);
    out.extend_from_slice(&check.as_bytes()[..CHECK_BYTES]);
}

/// The form in which a change goes to the log. It is known before the change is signed, so that places can be given out.
#[derive(Debug)]
pub struct Form {
    /// What stands behind the signature; `None` keeps the change as it is, because packing makes it no shorter.
    packed: Option<Vec<u8>>,
    payload_len: usize,
}

impl Form {
    /// The shorter one.
    #[must_use]
    pub fn of(change: &Change) -> Self {
        let packed = packed::pack(change);
        Self { payload_len: packed.as_ref().map_or(change.encoded_len(), |packed| SIGNATURE_BYTES + packed.len()), packed }
    }

    /// The change as it is, which every version of the log knows.
    #[must_use]
    pub fn plain(change: &Change) -> Self {
        Self { packed: None, payload_len: change.encoded_len() }
    }

    /// Bytes of the payload, for [`allot`].
    #[must_use]
    pub fn payload_len(&self) -> usize {
        self.payload_len
    }

    /// Appends the record of the change that this is the form of.
    pub fn frame(&self, a: u64, change: &Change, signature: &Signature, out: &mut Vec<u8>) {
        match &self.packed {
            Some(packed) => frame_parts(MAGIC_PACKED, a, &[signature.as_bytes(), packed], out),
            None => {
                let mut payload = Vec::with_capacity(self.payload_len);
                change.write(signature, &mut payload);
                frame(a, &payload, out);
            }
        }
    }
}

/// A change's record, in its shorter form.
#[must_use]
pub fn framed(a: u64, change: &Verified<Change>) -> Vec<u8> {
    let mut out = Vec::new();
    Form::of(change).frame(a, change, change.signature(), &mut out);
    out
}

/// Writes to the log. There is one, in the thread that syncs.
#[derive(Debug)]
pub struct Appender {
    to: Output,
    /// Where the next record goes.
    next: Place,
}

#[derive(Debug)]
enum Output {
    /// The segment at hand of the log in a folder.
    File {
        folder: PathBuf,
        file: File,
    },
    Memory(MemoryDisk),
}

impl Appender {
    /// Opens the log for appending at `next`; whatever stands behind it is cut off.
    ///
    /// # Errors
    ///
    /// Of the file system.
    pub fn open(folder: &Path, next: Place) -> io::Result<Self> {
        std::fs::create_dir_all(folder)?;
        let file = open_segment(folder, next.segment)?;
        if file.metadata()?.len() > next.offset {
            file.set_len(next.offset)?;
        }
        // A process that was killed may have left records that are good and not on disk yet; they count from now on.
        file.sync_all()?;
        File::open(folder)?.sync_all()?;
        Ok(Self { to: Output::File { folder: folder.to_owned(), file }, next })
    }

    /// The same for a log in memory.
    ///
    /// # Errors
    ///
    /// What the simulated disk was told to answer.
    pub fn in_memory(disk: MemoryDisk, next: Place) -> io::Result<Self> {
        disk.cut(next)?;
        Ok(Self { to: Output::Memory(disk), next })
    }

    /// Writes framed records that begin at `place`, which is the end of the log or the start of the next segment.
    ///
    /// # Errors
    ///
    /// Of the file system; then call [`Appender::rewind`] or give up writing.
    pub fn write(&mut self, place: Place, records: &[u8]) -> io::Result<()> {
        match &mut self.to {
            Output::File { folder, file } => {
                let disk = rustix::fs::fstatvfs(&*file)?;
                if disk.f_bavail.saturating_mul(disk.f_frsize) < ROOM_BYTES_MIN + records.len() as u64 {
                    return Err(io::ErrorKind::StorageFull.into());
                }
                if place.segment != self.next.segment {
                    file.sync_data()?;
                    *file = open_segment(folder, place.segment)?;
                    File::open(folder)?.sync_all()?;
                }
                file.write_all_at(records, place.offset)?;
            }
            Output::Memory(disk) => {
                if place.segment != self.next.segment {
                    disk.sync(self.next.segment)?;
                }
                disk.write(place, records)?;
            }
        }
        self.next = Place { offset: place.offset + records.len() as u64, ..place };
        Ok(())
    }

    /// Makes everything written durable.
    ///
    /// # Errors
    ///
    /// Of the file system. What was written since the last success may or may not be there: never retry on the
    /// same file, see [`Appender::rewind`].
    pub fn sync(&mut self) -> io::Result<()> {
        match &mut self.to {
            Output::File { file, .. } => file.sync_data(),
            Output::Memory(disk) => disk.sync(self.next.segment),
        }
    }

    /// Cuts off what was written from `place` on, after a write that failed for lack of space.
    ///
    /// # Errors
    ///
    /// Of the file system.
    pub fn rewind(&mut self, place: Place) -> io::Result<()> {
        match &mut self.to {
            Output::File { folder, file } => {
                for segment in (place.segment + 1)..=self.next.segment {
                    let _ = std::fs::remove_file(segment_path(folder, segment));
                }
                *file = open_segment(folder, place.segment)?;
                file.set_len(place.offset)?;
                file.sync_all()?;
            }
            Output::Memory(disk) => disk.cut(place)?,
        }
        self.next = place;
        Ok(())
    }
}

fn segment_path(folder: &Path, segment: u32) -> PathBuf {
    folder.join(format!("{segment:08}.log"))
}

fn open_segment(folder: &Path, segment: u32) -> io::Result<File> {
    OpenOptions::new()
        .read(true)
        .write(true)
        .create(true)
        .truncate(false)
        .mode(0o600)
        .custom_flags(rustix::fs::OFlags::NOFOLLOW.bits() as i32)
        .open(segment_path(folder, segment))
}

/// A record and where it stands.
#[derive(Debug)]
pub struct Record {
    /// Where it begins.
    pub place: Place,
    /// Where the next one begins, if it stands in the same segment.
    pub end: Place,
    /// Its arrival number.
    pub a: u64,
    /// The encoded change.
    pub payload: Vec<u8>,
    /// Bytes that the payload takes in the log, for [`allot`].
    pub payload_len: usize,
}

/// Bytes of the log that are no record.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Damage {
    /// Where they begin.
    pub place: Place,
    /// How many there are.
    pub bytes: u64,
}

/// What a walk along the log meets.
#[derive(Debug)]
pub enum Item {
    /// A good record.
    Record(Record),
    /// Bytes that are no record, followed by a good one or the next segment.
    Damaged(Damage),
}

/// Reads the log. Cheap to clone; safe beside an [`Appender`].
#[derive(Clone, Debug)]
pub struct LogReader(Input);

#[derive(Clone, Debug)]
enum Input {
    Folder {
        folder: Arc<Path>,
        /// The segments opened last, a few of them.
        open: Arc<Mutex<OpenSegments>>,
    },
    Memory(MemoryDisk),
}

/// A segment that is read.
enum Segment {
    File(Arc<File>),
    Memory(MemoryDisk, u32),
}

impl Segment {
    fn len(&self) -> io::Result<u64> {
        match self {
            Self::File(file) => Ok(file.metadata()?.len()),
            Self::Memory(disk, segment) => disk.len(*segment),
        }
    }

    fn read_exact_at(&self, buffer: &mut [u8], offset: u64) -> io::Result<()> {
        match self {
            Self::File(file) => file.read_exact_at(buffer, offset),
            Self::Memory(disk, segment) => disk.read_exact_at(*segment, buffer, offset),
        }
    }
}

/// Segments by number.
type OpenSegments = Vec<(u32, Arc<File>)>;

/// Open files kept by a reader.
const OPEN_SEGMENTS_MAX: usize = 64;

impl LogReader {
    /// Reads the log in `folder`.
    #[must_use]
    pub fn new(folder: &Path) -> Self {
        Self(Input::Folder { folder: folder.into(), open: Arc::default() })
    }

    /// Reads the log in memory.
    #[must_use]
    pub fn in_memory(disk: MemoryDisk) -> Self {
        Self(Input::Memory(disk))
    }

    fn file(&self, segment: u32) -> io::Result<Segment> {
        let (folder, open) = match &self.0 {
            Input::Folder { folder, open } => (folder, open),
            Input::Memory(disk) => return Ok(Segment::Memory(disk.clone(), segment)),
        };
        let mut open = open.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
        if let Some((_, file)) = open.iter().find(|(number, _)| *number == segment) {
            return Ok(Segment::File(Arc::clone(file)));
        }
        let file =
            Arc::new(OpenOptions::new().read(true).custom_flags(rustix::fs::OFlags::NOFOLLOW.bits() as i32).open(segment_path(folder, segment))?);
        if open.len() >= OPEN_SEGMENTS_MAX {
            open.remove(0);
        }
        open.push((segment, Arc::clone(&file)));
        Ok(Segment::File(file))
    }

    /// The record at a place.
    ///
    /// # Errors
    ///
    /// Of the file system; [`io::ErrorKind::InvalidData`] when no good record begins there.
    pub fn read(&self, place: Place) -> io::Result<Record> {
        let file = self.file(place.segment)?;
        read_record(&file, place)?.ok_or_else(|| {
            io::Error::new(io::ErrorKind::InvalidData, format!("no good record at {}:{} of the change log", place.segment, place.offset))
        })
    }

    /// Writes whole records over damaged bytes, and makes them durable.
    ///
    /// # Errors
    ///
    /// Of the file system; [`io::ErrorKind::Unsupported`] for a log in memory.
    pub fn patch(&self, place: Place, records: &[u8]) -> io::Result<()> {
        let Input::Folder { folder, .. } = &self.0 else { return Err(io::ErrorKind::Unsupported.into()) };
        let file =
            OpenOptions::new().write(true).custom_flags(rustix::fs::OFlags::NOFOLLOW.bits() as i32).open(segment_path(folder, place.segment))?;
        file.write_all_at(records, place.offset)?;
        file.sync_data()
    }

    /// The numbers of the segments that exist, ascending.
    ///
    /// # Errors
    ///
    /// Of the file system.
    pub fn segments(&self) -> io::Result<Vec<u32>> {
        let folder = match &self.0 {
            Input::Folder { folder, .. } => folder,
            Input::Memory(disk) => return Ok(disk.segments()),
        };
        let entries = match std::fs::read_dir(folder) {
            Ok(entries) => entries,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
            Err(error) => return Err(error),
        };
        let mut numbers = Vec::new();
        for entry in entries {
            let name = entry?.file_name();
            if let Some(number) = name.to_str().and_then(|n| n.strip_suffix(".log")).and_then(|n| n.parse().ok()) {
                numbers.push(number);
            }
        }
        numbers.sort_unstable();
        Ok(numbers)
    }

    /// Walks along the log from a place where a record begins.
    ///
    /// # Errors
    ///
    /// Of the file system.
    pub fn walk(&self, from: Place) -> io::Result<Walk> {
        let segments = self.segments()?.into_iter().filter(|segment| *segment >= from.segment).collect();
        Ok(Walk { reader: self.clone(), segments, at: from })
    }
}

fn read_record(file: &Segment, place: Place) -> io::Result<Option<Record>> {
    let mut head = [0; HEAD_BYTES];
    if !read_fully(file, &mut head, place.offset)? || (head[..4] != MAGIC && head[..4] != MAGIC_PACKED) {
        return Ok(None);
    }
    let len = u32::from_le_bytes([head[4], head[5], head[6], head[7]]) as usize;
    if len > PAYLOAD_BYTES_MAX {
        return Ok(None);
    }
    let mut bytes = vec![0; HEAD_BYTES + len + CHECK_BYTES];
    if !read_fully(file, &mut bytes, place.offset)? {
        return Ok(None);
    }
    let (content, check) = bytes.split_at(HEAD_BYTES + len);
    if blake3::hash(content).as_bytes()[..CHECK_BYTES] != *check {
        return Ok(None);
    }
    let a = u64::from_le_bytes([head[8], head[9], head[10], head[11], head[12], head[13], head[14], head[15]]);
    let payload = if head[..4] == MAGIC_PACKED {
        let Some(payload) = packed::unpack(&content[HEAD_BYTES..]) else { return Ok(None) };
        payload
    } else {
        bytes.truncate(HEAD_BYTES + len);
        bytes.drain(..HEAD_BYTES);
        bytes
    };
    Ok(Some(Record { place, end: Place { offset: place.offset + record_bytes(len), ..place }, a, payload, payload_len: len }))
}

/// Fills `buffer` from `offset`; `false` when the file ends before.
fn read_fully(file: &Segment, buffer: &mut [u8], offset: u64) -> io::Result<bool> {
    match file.read_exact_at(buffer, offset) {
        Ok(()) => Ok(true),
        Err(error) if error.kind() == io::ErrorKind::UnexpectedEof => Ok(false),
        Err(error) => Err(error),
    }
}

/// A walk along the log. Made by [`LogReader::walk`].
#[derive(Debug)]
pub struct Walk {
    reader: LogReader,
    segments: std::collections::VecDeque<u32>,
    at: Place,
}

impl Iterator for Walk {
    type Item = io::Result<Item>;

    fn next(&mut self) -> Option<Self::Item> {
        loop {
            let segment = *self.segments.front()?;
            if self.at.segment != segment {
                self.at = Place { segment, offset: 0 };
            }
            match self.step() {
                Ok(Some(item)) => return Some(Ok(item)),
                Ok(None) => {
                    self.segments.pop_front();
                }
                Err(error) => {
                    self.segments.clear();
                    return Some(Err(error));
                }
            }
        }
    }
}

impl Walk {
    fn step(&mut self) -> io::Result<Option<Item>> {
        let file = self.reader.file(self.at.segment)?;
        let len = file.len()?;
        if self.at.offset >= len {
            return Ok(None);
        }
        if let Some(record) = read_record(&file, self.at)? {
            self.at = record.end;
            return Ok(Some(Item::Record(record)));
        }
        let start = self.at;
        let next = next_good(&file, start.offset + 1, len)?.unwrap_or(len);
        self.at.offset = next;
        Ok(Some(Item::Damaged(Damage { place: start, bytes: next - start.offset })))
    }
}

/// Finds the next good record in a damaged segment by its magic.
fn next_good(file: &Segment, from: u64, len: u64) -> io::Result<Option<u64>> {
    const WINDOW: u64 = 1024 * 1024;
    let mut start = from;
    while start < len {
        let mut window = vec![0; WINDOW.min(len - start) as usize];
        file.read_exact_at(&mut window, start)?;
        for at in 0..window.len().saturating_sub(MAGIC.len() - 1) {
            let offset = start + at as u64;
            if window[at..].starts_with(MAGIC_START) && read_record(file, Place { segment: 0, offset })?.is_some() {
                return Ok(Some(offset));
            }
        }
        if start + window.len() as u64 >= len {
            break;
        }
        // Windows overlap, so that a magic across their border is seen.
        start += window.len() as u64 - (MAGIC.len() as u64 - 1);
    }
    Ok(None)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn log_of(payloads: &[&[u8]]) -> (tempfile::TempDir, Vec<Place>) {
        let folder = tempfile::tempdir().expect("temporary folder");
        let mut appender = Appender::open(folder.path(), Place::START).expect("open");
        let mut next = Place::START;
        let mut places = Vec::new();
        for (a, payload) in payloads.iter().enumerate() {
            let (place, end) = allot(next, payload.len());
            let mut bytes = Vec::new();
            frame(a as u64, payload, &mut bytes);
            appender.write(place, &bytes).expect("write");
            places.push(place);
            next = end;
        }
        appender.sync().expect("sync");
        (folder, places)
    }

    fn walk(folder: &Path) -> Vec<Result<u64, u64>> {
        let items = LogReader::new(folder).walk(Place::START).expect("walk");
        items
            .map(|item| match item.expect("readable") {
                Item::Record(record) => Ok(record.a),
                Item::Damaged(damage) => Err(damage.bytes),
            })
            .collect()
    }

    #[test]
    fn reads_what_was_written() {
        let (folder, places) = log_of(&[b"one", b"", b"three"]);
        assert_eq!(walk(folder.path()), [Ok(0), Ok(1), Ok(2)]);
        assert_eq!(LogReader::new(folder.path()).read(places[2]).expect("there").payload, b"three");
    }

    /// A change with this body, by nobody.
    pub(super) fn change(body: &[u8]) -> Change {
        let header = crate::change::Header {
            kind: crate::change::Kind::Data,
            timeline: crate::ids::TimelineId([1; 32]),
            author: timebus_identity::PublicKey::from_bytes([2; 32]),
            seq: 2,
            prev: Some(crate::ids::ChangeId([3; 32])),
            cap: None,
            parents: vec![crate::ids::ChangeId([4; 32])],
            lamport: 5,
            time_ms: 6,
            cum: 7,
            body_len: body.len() as u64,
            body_root: *blake3::hash(body).as_bytes(),
            encryption: None,
        };
        Change::new(header, body.into()).expect("a change")
    }

    #[test]
    fn a_change_is_kept_in_its_shorter_form_and_read_as_it_was() {
        let noise: Vec<u8> = (0..2000u32).flat_map(|n| blake3::hash(&n.to_le_bytes()).as_bytes().to_owned()).collect();
        let changes = [change(b""), change(&[0; 100_000]), change(&noise), change(b"short")];
        let folder = tempfile::tempdir().expect("temporary folder");
        let signature = Signature::from_bytes([9; 64]);
        let mut bytes = Vec::new();
        for (change, a) in changes.iter().zip(1..) {
            for form in [Form::plain(change), Form::of(change)] {
                let before = bytes.len();
                form.frame(a, change, &signature, &mut bytes);
                assert_eq!((bytes.len() - before) as u64, record_bytes(form.payload_len()));
            }
        }
        assert!(Form::of(&changes[2]).packed.is_none(), "noise is not packed");
        assert!(Form::of(&changes[1]).payload_len() < 1000, "what repeats itself is");
        std::fs::create_dir_all(folder.path()).expect("a folder");
        std::fs::write(segment_path(folder.path(), 1), &bytes).expect("write");
        let items = LogReader::new(folder.path()).walk(Place::START).expect("walk");
        let read = items.map(|item| match item.expect("readable") {
            Item::Record(record) => (record.a, record.payload),
            Item::Damaged(damage) => panic!("{damage:?}"),
        });
        let expected = changes.iter().zip(1..).flat_map(|(change, a)| {
            let mut payload = Vec::new();
            change.write(&signature, &mut payload);
            [(a, payload.clone()), (a, payload)]
        });
        assert!(read.eq(expected));
    }

    #[test]
    fn every_flipped_bit_is_noticed_and_the_rest_is_read() {
        let (folder, places) = log_of(&[b"one", b"two", b"three"]);
        let path = segment_path(folder.path(), 1);
        let good = std::fs::read(&path).expect("read");
        for at in places[1].offset..places[2].offset {
            let mut bad = good.clone();
            bad[at as usize] ^= 4;
            std::fs::write(&path, &bad).expect("write");
            assert_eq!(walk(folder.path()), [Ok(0), Err(places[2].offset - places[1].offset), Ok(2)], "byte {at}");
        }
    }

    #[test]
    fn a_cut_log_keeps_its_whole_records() {
        let (folder, places) = log_of(&[b"one", b"two"]);
        let path = segment_path(folder.path(), 1);
        let good = std::fs::read(&path).expect("read");
        for len in 0..good.len() {
            std::fs::write(&path, &good[..len]).expect("write");
            let whole = if (len as u64) < places[1].offset { 0 } else { 1 };
            assert_eq!(walk(folder.path()).iter().filter(|item| item.is_ok()).count(), whole, "cut at {len}");
        }
    }
}
