//! What dishonest peers do.
//!
//! Each runs the real peer, and on top of it lies about what it has, sends what no peer sends, and signs two changes
//! in one place of its chain.

use std::cell::RefCell;
use std::collections::BTreeMap;
use std::sync::Arc;

use bytes::Bytes;
use timebus_identity::{PublicKey, SecretKey, Signature, Verified};
use timebus_store::change::{Body, Change, Header, OVERHEAD_BYTES};
use timebus_store::ids::{ChangeId, TimelineId};

use super::dice::Dice;
use crate::node::LinkId;
use crate::sync::frame::{FRAME_BYTES_MAX, Frame, Part};
use crate::sync::{Cursor, Past, Remote, Replica, ReplicaError, Tip};

/// Frames kept to be sent again.
const RECORDED_MAX: usize = 64;
/// Changes of one flood.
const FLOOD: usize = 300;

/// What a dishonest peer is up to.
#[derive(Debug)]
pub(super) struct Evil {
    pub(super) dice: Dice,
    pub(super) equivocates: bool,
    lies: bool,
    withholds: bool,
    replays: bool,
    malforms: bool,
    forges: bool,
    floods: bool,
    recorded: Vec<Bytes>,
    /// The timeline of each channel of a link, as far as it was seen.
    channels: BTreeMap<(LinkId, u64), TimelineId>,
    /// How many frames were tampered with.
    pub(super) tricks: u64,
}

impl Evil {
    pub(super) fn new(seed: u64) -> Self {
        let mut dice = Dice::new(seed);
        let first = dice.below(7);
        let mut is = |number: usize| number == first || dice.percent(25);
        let (equivocates, lies, withholds, replays, malforms, forges, floods) = (is(0), is(1), is(2), is(3), is(4), is(5), is(6));
        Self { dice, equivocates, lies, withholds, replays, malforms, forges, floods, recorded: Vec::new(), channels: BTreeMap::new(), tricks: 0 }
    }

    /// What it does, for people.
    pub(super) fn traits(&self) -> String {
        let all = [
            (self.equivocates, "signs two changes in one place"),
            (self.lies, "lies about what it has"),
            (self.withholds, "withholds changes"),
            (self.replays, "replays frames"),
            (self.malforms, "sends malformed frames"),
            (self.forges, "forges signatures"),
            (self.floods, "floods with changes whose causes never come"),
        ];
        all.iter().filter(|(is, _)| *is).map(|(_, text)| *text).collect::<Vec<_>>().join(", ")
    }

    /// What it sends instead of a frame.
    pub(super) fn tamper(&mut self, link: LinkId, bytes: Bytes, key: &SecretKey) -> Vec<Bytes> {
        let frame = Frame::decode(&bytes);
        if let Ok(Frame::Open(open)) = &frame {
            self.channels.insert((link, open.channel), open.timeline);
        }
        let mut out = vec![bytes.clone()];
        if self.replays {
            if self.recorded.len() < RECORDED_MAX || self.dice.percent(10) {
                let at = self.dice.below(RECORDED_MAX).min(self.recorded.len());
                self.recorded.insert(at, bytes.clone());
                self.recorded.truncate(RECORDED_MAX);
            }
            if self.dice.percent(4) {
                self.tricks += 1;
                out.extend(self.dice.pick(&self.recorded).cloned());
            }
        }
        if self.malforms && self.dice.percent(3) {
            self.tricks += 1;
            let mut bad = bytes.to_vec();
            match self.dice.below(5) {
                0 => bad.push(0),
                1 => bad.truncate(self.dice.below(bad.len())),
                2 => bad = self.dice.bytes().repeat(1 + self.dice.below(40)),
                3 => bad.resize(FRAME_BYTES_MAX + 1, 7),
                _ => {
                    let at = self.dice.below(bad.len());
                    bad[at] ^= 1 << self.dice.below(8);
                }
            }
            out = vec![bad.into()];
        }
        if let Ok(Frame::Changes { channel, part, upto, changes }) = frame {
            if self.withholds && self.dice.percent(30) {
                self.tricks += 1;
                return Vec::new();
            }
            if self.forges && self.dice.percent(30) {
                self.tricks += 1;
                let changes = changes.iter().map(|change| if self.dice.percent(50) { forged(change) } else { change.clone() }).collect();
                out = vec![Frame::Changes { channel, part, upto, changes }.encode()];
            }
        }
        if self.floods && self.dice.percent(4) {
            let channels: Vec<(u64, TimelineId)> =
                self.channels.iter().filter(|((of, _), _)| *of == link).map(|((_, channel), timeline)| (*channel, *timeline)).collect();
            if let Some((channel, timeline)) = self.dice.pick(&channels).copied() {
                self.tricks += 1;
                let changes = (0..FLOOD).map(|_| self.orphan(timeline, key)).collect();
                out.push(Frame::Changes { channel, part: Part::Stream, upto: 1 << 40, changes }.encode());
            }
        }
        out
    }

    /// A change whose causes do not exist. Its signature is good in one of ten, since that is what costs time.
    fn orphan(&mut self, timeline: TimelineId, key: &SecretKey) -> Bytes {
        let header = Header {
            kind: timebus_store::change::Kind::Data,
            timeline,
            author: key.public(),
            seq: 2,
            prev: Some(ChangeId(self.dice.bytes())),
            cap: None,
            parents: Vec::new(),
            lamport: 2,
            time_ms: 1,
            cum: 1000,
            body_len: 0,
            body_root: [0; 32],
            encryption: None,
        };
        let is_signed = self.dice.percent(10);
        let Some(change) = with_body(header, &Body::default()) else { return Bytes::new() };
        let signed = if is_signed { Verified::sign(change.clone(), key).ok().map(|change| *change.signature()) } else { None };
        let mut out = Vec::new();
        change.write(&signed.unwrap_or(Signature::from_bytes([3; 64])), &mut out);
        out.into()
    }
}

/// The change of a header with another body.
fn with_body(header: Header, body: &Body) -> Option<Change> {
    let bytes: Arc<[u8]> = body.encode().into();
    let len = bytes.len() as u64;
    let before = header.cum.saturating_sub(OVERHEAD_BYTES + header.body_len);
    let header = Header { body_len: len, body_root: *blake3::hash(&bytes).as_bytes(), cum: before + OVERHEAD_BYTES + len, ..header };
    Change::new(header, bytes).ok()
}

fn forged(change: &Bytes) -> Bytes {
    let Ok(signed) = Change::decode(change) else { return change.clone() };
    let mut signature = *signed.signature().as_bytes();
    signature[5] ^= 1;
    let mut out = Vec::new();
    signed.content().write(&Signature::from_bytes(signature), &mut out);
    out.into()
}

/// Another change in the same place of its author's chain.
pub(super) fn twin(record: &[u8], key: &SecretKey) -> Option<Verified<Change>> {
    let signed = Change::decode(record).ok()?;
    let change = signed.content();
    let mut body = Body::decode(change.body_bytes()).ok()?;
    // The same with one op less, or another name.
    if body.ops.pop().is_none() {
        body.label = Some("a twin".into());
    }
    body.part = None;
    Verified::sign(with_body(Header { time_ms: change.header().time_ms + 1, ..change.header().clone() }, &body)?, key).ok()
}

/// A store that says now and then what is not so.
pub(super) struct Lying<'a> {
    store: &'a dyn Replica,
    evil: RefCell<&'a mut Evil>,
}

impl<'a> Lying<'a> {
    pub(super) fn new(store: &'a dyn Replica, evil: &'a mut Evil) -> Self {
        Self { store, evil: RefCell::new(evil) }
    }

    fn lies(&self, percent: u64) -> bool {
        let mut evil = self.evil.borrow_mut();
        let lies = evil.lies && evil.dice.percent(percent);
        evil.tricks += u64::from(lies);
        lies
    }

    fn any(&self) -> u64 {
        self.evil.borrow_mut().dice.any()
    }

    fn id(&self) -> ChangeId {
        ChangeId(self.evil.borrow_mut().dice.bytes())
    }
}

impl Replica for Lying<'_> {
    fn incarnation(&self) -> [u8; 16] {
        self.store.incarnation()
    }

    fn until(&self, remote: &Remote, space: &PublicKey, timeline: &TimelineId) -> Result<u64, ReplicaError> {
        self.store.until(remote, space, timeline)
    }

    fn may_sync(&self, remote: &Remote, space: &PublicKey, timeline: &TimelineId) -> Result<bool, ReplicaError> {
        self.store.may_sync(remote, space, timeline)
    }

    fn readable(&self, space: &PublicKey) -> Result<Vec<TimelineId>, ReplicaError> {
        self.store.readable(space)
    }

    fn statements(&self) -> u64 {
        self.store.statements()
    }

    fn resume(&self, remote: &Remote, timeline: &TimelineId) -> Result<Option<Cursor>, ReplicaError> {
        if self.lies(30) {
            return Ok(Some(Cursor { incarnation: [self.any() as u8; 16], upto: self.any() % 100 }));
        }
        self.store.resume(remote, timeline)
    }

    fn local(&self, space: &PublicKey, timeline: &TimelineId) -> Result<Option<u32>, ReplicaError> {
        self.store.local(space, timeline)
    }

    fn heads(&self, t: u32, max: usize) -> Result<Vec<ChangeId>, ReplicaError> {
        let mut heads = self.store.heads(t, max)?;
        if self.lies(20) {
            heads.pop();
        }
        if self.lies(20) {
            heads.truncate(max.saturating_sub(1));
            heads.push(self.id());
        }
        Ok(heads)
    }

    fn end(&self, t: u32) -> Result<u64, ReplicaError> {
        Ok(if self.lies(10) { 0 } else { self.store.end(t)? })
    }

    fn find(&self, t: u32, id: &ChangeId) -> Result<Option<u64>, ReplicaError> {
        Ok(if self.lies(5) { None } else { self.store.find(t, id)? })
    }

    fn tips(&self, t: u32, after: Option<&Tip>, max: usize) -> Result<Vec<Tip>, ReplicaError> {
        let mut tips = self.store.tips(t, after, max)?;
        for tip in &mut tips {
            if self.lies(20) {
                tip.id = self.id();
            }
            if self.lies(20) {
                tip.seq = 1 + self.any() % 200;
            }
        }
        tips.sort();
        tips.dedup();
        Ok(tips)
    }

    fn bytes(&self, t: u32) -> Result<u64, ReplicaError> {
        Ok(if self.lies(20) { self.any() } else { self.store.bytes(t)? })
    }

    fn tips_of(&self, t: u32, author: &PublicKey) -> Result<Vec<(Tip, u64)>, ReplicaError> {
        self.store.tips_of(t, author)
    }

    fn at(&self, t: u32, author: &PublicKey, seq: u64) -> Result<Option<ChangeId>, ReplicaError> {
        self.store.at(t, author, seq)
    }

    fn arrivals(&self, t: u32, from: u64, max: usize) -> Result<Vec<(u64, ChangeId)>, ReplicaError> {
        let mut rows = self.store.arrivals(t, from, max)?;
        if self.evil.borrow().withholds {
            rows.retain(|_| self.any() % 100 >= 15);
        }
        Ok(rows)
    }

    fn record(&self, t: u32, a: u64) -> Result<Vec<u8>, ReplicaError> {
        self.store.record(t, a)
    }

    fn author(&self, t: u32, a: u64) -> Result<PublicKey, ReplicaError> {
        self.store.author(t, a)
    }

    fn past(&self, t: u32, changes: &[u64]) -> Result<Box<dyn Past>, ReplicaError> {
        self.store.past(t, changes)
    }
}
